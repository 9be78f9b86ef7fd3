"""Many files as one image: opened together, checked, and joined along one dimension."""
