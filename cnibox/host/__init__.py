"""The one gate to the machine: namespaces, links, addresses, routes, sysctls, files, packet filters. Nothing of CNI."""
