"""What several experiments share: settings, presets, data sets, students, claims."""
