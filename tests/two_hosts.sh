# Two hosts on this machine: two network namespaces, joined by a cable. As root of a user namespace:
#   unshare --user --map-root-user --net --mount sh two_hosts.sh WATCHED SECONDS COMMAND...
# COMMAND runs on both with $HOLDS (1 where they meet), $ADDRESS and $CABLE set. Once the file WATCHED is there, the cable
# is pulled out for so many SECONDS. Ends with the larger exit code.
set -eu
watched=$1 seconds=$2
shift 2
ip link set lo up
unshare --net sleep 100000 &
other=$!
trap 'kill $other' EXIT
while [ "$(readlink /proc/self/ns/net)" = "$(readlink /proc/$other/ns/net)" ]; do sleep 0.05; done
there="nsenter --net=/proc/$other/ns/net"
ip link add left type veth peer name right
ip link set right netns $other
ip address add 10.9.0.1/24 dev left
ip link set left up
$there ip link set lo up
$there ip address add 10.9.0.2/24 dev right
$there ip link set right up
HOLDS=1 ADDRESS=10.9.0.1 CABLE=left "$@" &
first=$!
HOLDS=0 ADDRESS=10.9.0.2 CABLE=right $there "$@" &
second=$!
while [ ! -e "$watched" ] && kill -0 $first; do sleep 0.05; done
ip link set left down
echo "cable out" >&2
sleep "$seconds"
ip link set left up
echo "cable in" >&2
code=0
wait $first || code=$?
wait $second || code=$?
exit $code
