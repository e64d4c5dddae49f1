"""Reads what a clip of the lessons' world shows, and says how far that is what its caption asked for.

Classical vision with numpy and opencv, no network and no torch: `reading.read` looks at the pixels alone,
`score.score` compares with the scene, `table.evaluate` counts over many clips. Knows the teacher's palette
and the laws of its world, but neither a clip's scene nor its random numbers. Does not sample a model.
"""
