"""What every experiment runs on: settings, run folder, progress, data sets, students, claims."""
