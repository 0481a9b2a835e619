"""Records of a stream, read without a consumer group: from where to where, and how they look."""
