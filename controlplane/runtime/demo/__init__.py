"""The demo world: six invented tenants, four services that use the real SDK, and a provider on loopback that answers them."""
