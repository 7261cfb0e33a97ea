"""The pure model of VSS: no I/O, no trio, no root."""
