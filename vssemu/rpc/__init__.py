"""Varlink on unix streams: framing, interfaces, servers, clients, descriptor passing."""
