"""The lab: claims about methods, the toy tasks and small models that test them, and the evidence.

Nothing outside imports from here but the command line.
"""
