"""Image files: judged without decoding, decoded, cached."""
