"""Was what the audit said before training right, and what the sentinel said during it?"""
