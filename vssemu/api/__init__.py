"""The declared interfaces of vssemu and the clients made from them."""
