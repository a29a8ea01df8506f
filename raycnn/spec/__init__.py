"""What a user asks for: the search file (`search`), what it varies (`space`), one resolved training (`trial`)."""
