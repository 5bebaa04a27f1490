"""Values and rules of thumb shared by all layers. Pure: no clock, no file, no environment, no thread of its own."""
