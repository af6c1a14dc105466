"""Netlink without pyroute2: messages are data, described by tables.

codec   encodes and decodes messages in pyroute2's form from the tables of a family
rtnl    links, addresses, routes, rules, neighbours, namespace ids   (NETLINK_ROUTE)
tc      qdiscs, filters and their actions                            (NETLINK_ROUTE)
nft     nftables                                                     (NETLINK_NETFILTER)
socket  the socket: requests in batches, dumps, transactions, events

Import only the family that is needed: each costs a start-up of the plugin about 0.05 ms.
"""
