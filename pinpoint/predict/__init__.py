"""A trained detector on images, folders and videos: what it finds, in the formats of other tools."""
