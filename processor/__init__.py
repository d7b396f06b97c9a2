"""The processor: a Faust agent that turns originals into variants."""
