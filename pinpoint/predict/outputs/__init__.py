"""The formats that predictions are written in, by the words of --save."""
