# SPDX-License-Identifier: GPL-2.0
"""The names of columns: which hold the addresses to block, and which hold addresses of something else."""

from __future__ import annotations


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


# Where a list keeps its addresses.
ADDRESSES = words_of(
    "ip address ip_address ipaddress ip_addr ip_addresses ips addr network cidr prefix ip_prefix ip_range iprange "
    "range netblock subnet net ipv4 ipv6 ip4 ip6 ip_cidr value ioc_value ioc indicator entry object observable "
    "member element ipv4_address ipv6_address ipv4addr ipv6addr bad_ip malicious_ip blocked_ip banned_ip ip_or_cidr "
    "network_address indicator_value item target_ip_address_blocked address_block ip_block adresse ip_adresse "
    "adresse_ip ipadresse content members addresses direccion direccion_ip indirizzo indirizzo_ip adres ip_adres"
)
# Who sent, attacked, asked.
SOURCES = words_of(
    "src_ip source_ip source src srcip src_addr srcaddr source_address sourceip sourceaddress source_ip_address "
    "saddr sip ip_src ipsrc client client_ip clientip client_address client_addr clientaddr c_ip cip remote "
    "remote_ip remoteip remote_addr remote_address remote_host remotehost rhost attacker attacker_ip attackerip "
    "attacker_address attack_ip offender offender_ip abuser intruder src_host source_host id_orig_h orig_h "
    "originator sender sender_ip scanner scanner_ip bot bot_ip actor_ip src_net source_network source_net src_cidr "
    "x_forwarded_for forwarded_for xff x_real_ip real_ip true_client_ip cf_connecting_ip original_client_ip end_user_ip"
)
# Who was attacked, who logged, who passed it on.
TARGETS = words_of(
    "dst_ip dest_ip destination_ip dst dest destination dstip destip dst_addr dstaddr dest_addr destination_address "
    "destinationip destinationaddress daddr dip ip_dst ipdst destination_ip_address server server_ip serverip s_ip "
    "server_address host hostip host_ip hostname target target_ip targetip victim victim_ip local local_ip localip "
    "local_addr local_address id_resp_h resp_h responder device device_ip deviceip dvc dvc_ip sensor sensor_ip "
    "logger logger_ip reporter reporter_ip observer observer_ip firewall firewall_ip gateway gw next_hop nexthop "
    "router relay nat_ip nat_src_ip nat_dst_ip translated_ip listener honeypot honeypot_ip dst_host dest_host "
    "destination_host collector agent_ip orig_dst our_ip destination_network dst_net"
)
# Cells that are written like addresses without being one.
NO_ADDRESSES = words_of(
    "version ver software_version firmware firmware_version release build app_version agent_version version_number "
    "oid snmp_oid object_id object_identifier sysobjectid serial serial_number revision patch netmask mask "
    "subnet_mask wildcard wildcard_mask dns dns_server nameserver"
)
# First and last address of a range. Not from and to: those are more often the two ends of a connection.
FIRSTS = (
    *("start_ip", "ip_start", "start", "start_address", "startip", "range_start", "network_start_ip", "begin"),
    *("first_ip", "ip_first", "first", "ip_from", "begin_ip", "ip_begin", "low", "first_address"),
    *("network_start_integer", "start_int", "start_integer", "startnum", "beginipnum", "ip_start_num"),
)
LASTS = (
    *("end_ip", "ip_end", "end", "end_address", "endip", "range_end", "network_end_ip", "last_ip", "ip_last", "last"),
    *("ip_to", "high", "last_address", "network_last_ip", "network_last_integer", "end_int", "end_integer"),
    *("endnum", "endipnum", "ip_end_num"),
)
# Names that say integers are addresses; under the others, a pair of integers may as well be two times.
INTEGERS = words_of(
    "start_ip ip_start startip network_start_ip first_ip ip_first ip_from begin_ip ip_begin network_start_integer "
    "start_int start_integer start_address first_address startnum beginipnum ip_start_num range_start"
)
# Prefix lengths and netmasks: without a doubt, and where the cells must agree.
LENGTHS = words_of(
    "prefix_length prefixlength prefixlen prefix_len plen masklen mask_len masklength mask_length netmask net_mask "
    "subnet_mask subnetmask mask mask_bits maskbits netmask_bits cidr_mask cidr_prefix cidr_length cidr_len "
    "network_mask network_length network_prefix_length ip_mask ipmask prefix_size prefix_bits subnet_prefix slash"
)
WILDCARDS = words_of("wildcard wildcard_mask wildcardmask inverse_mask hostmask")
# Numbers that are not prefix lengths, however they look.
COUNTS = words_of(
    "port ports src_port dst_port source_port dest_port destination_port count hits hit score level threat_level "
    "risk severity confidence attacks reports number_of_reports asn as as_number asnum category categories cat "
    "weight rank events events_count num total occurrences packets bytes age days id event_id index no status code "
    "protocol proto priority tlp version reliability votes abuse_score fraud_score timestamp time date ttl timeout "
    "duration"
)
# All of these: what a column of such a name holds needs no word.
NAMED = ADDRESSES | SOURCES | TARGETS | NO_ADDRESSES | LENGTHS | WILDCARDS | COUNTS | frozenset((*FIRSTS, *LASTS))


def known(header: list[str]) -> bool:
    """Return whether a header names a column of addresses, or the two of ranges."""
    names = set(header)
    return bool(names & (ADDRESSES | SOURCES | TARGETS)) or (
        not names.isdisjoint(FIRSTS) and not names.isdisjoint(LASTS)
    )
