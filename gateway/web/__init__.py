"""The page at `/`, where people upload and see images: its static files, and the headers that they are served with."""
