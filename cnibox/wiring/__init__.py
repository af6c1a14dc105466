"""What plugins share: an interface in a container, IPAM around it, masquerading, leases."""
