"""What a file says of itself: from its metadata chunks to sizes, labels and attributes, by nd2."""
