"""What moved, and along which direction: in activations, in their gradients, in parameters."""
