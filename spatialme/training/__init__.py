"""Training the refiner with Lightning: `spatialme fit`, `validate`, `test`, and the export of its weights.

Imported by nothing but the command line; `commands` is the only module that does without Lightning.
"""
