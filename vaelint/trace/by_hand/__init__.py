"""What a step does with gradients by its own hand, without an optimizer or before one."""
