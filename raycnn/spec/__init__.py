"""What a user asks for: the search space file (`search`), its parameters (`space`) and one resolved training (`trial`)."""
