"""Random changes of training samples: drawn as a plan, then carried out."""
