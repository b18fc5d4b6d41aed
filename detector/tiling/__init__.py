"""Large images in tiles: how they are cut, and how what the tiles find becomes one answer."""
