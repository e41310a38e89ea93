"""Example competitions, made on this machine: labelled pictures, and the spec file beside them."""
