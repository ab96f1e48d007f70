"""The one part of the command line that speaks the protos: calls in, plain documents out."""
