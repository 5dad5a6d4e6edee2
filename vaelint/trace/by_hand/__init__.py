"""What a step does by its own hand: gradients without an optimizer or before one, weights of the loss that it raises."""
