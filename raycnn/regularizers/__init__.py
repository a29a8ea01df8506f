"""What is done to a batch of images against overfitting, each a pure function of tensors.

Every module has a `draw…` function, which takes a torch.Generator and gives the random choices for many images at once,
and a function that applies such choices to images. The order in which they are combined is in training/batches.py.
"""
