"""How good a film is, in numbers that need no network and no GPU: seams, drift, flicker, smoothness.

Owns opencv and matplotlib. Any video can be measured. Where windows met must be told (layout): a number that
looks for seams wherever it likes finds some everywhere. It does not decide whether a film is good enough to
keep, nor does it know manifests: `jobs.quality` works out a film's layout from its plan.
"""
