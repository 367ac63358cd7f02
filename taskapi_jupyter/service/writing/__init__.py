"""What writes new jobs and versions into a home: submissions, groups, the files of versions."""
