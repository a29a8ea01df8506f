"""Images and labels: found or downloaded, checked, converted once to .npy, then memory-mapped by every process."""
