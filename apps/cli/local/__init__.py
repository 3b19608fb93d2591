"""The whole system on one machine: private services and every app as a process of its own."""
