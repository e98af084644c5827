class StackFailed(Exception):
    """The stack can't be brought up; the text is the line that the operator reads."""
