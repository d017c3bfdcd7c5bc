"""The verbs of the feedback half: functions from records to records. They know no files and no screen."""
