"""What the encoders minimise, and how they search: each file names its error and the release's function it follows."""
