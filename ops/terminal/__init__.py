"""What commands share towards the person at the terminal: options and output."""
