"""The frozen nouns and the two formats spoken with the agent (plan and journal)."""
