"""Several ranks predict one window together: axes, groups, exchanges, and attention over a shared sequence.

`axes` says in plain numbers which ranks work together and which tokens and heads each holds; `gang` lets
processes find each other and makes a torch group of every axis; `exchange` moves what they hold; `attention`
is the one seam through which every family's attention goes. A mesh is an argument everywhere, and `None` is
one rank alone. Which of a model's tensors are shared out is told by its family.
"""
