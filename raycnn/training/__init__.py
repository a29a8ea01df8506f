"""One training: `loop.train` from a TrialSpec and images to a Classifier. Knows nothing of searches or clusters."""
