"""The processor: a Faust agent that renders the variants of uploaded images and answers commands."""
