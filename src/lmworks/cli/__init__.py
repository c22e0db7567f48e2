"""The command line: thin verbs over functions that can be called from Python just as well."""
