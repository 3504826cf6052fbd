"""The organisations' rules about their events: kept from topics, applied by the intake."""
