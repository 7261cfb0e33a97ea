"""The documents of VSS: texts in, typed facts out, and back; no file is opened here."""
