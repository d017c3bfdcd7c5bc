"""The steps of Constitutional AI that ask models: functions from records to records.

``sample -> revise`` gives the rows for supervised fine-tuning, ``sample -> compare -> judge`` the
preferences for a reward model. ``rate`` and ``rank`` score answers directly. None of them reads or
writes a file.
"""
