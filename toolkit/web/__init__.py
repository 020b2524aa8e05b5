"""The page and the service: `glide serve`. One thread draws, any number of visitors wait."""
