// Go's own resolver: main SERVER NETWORK, where NETWORK is udp or tcp.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	server, network := os.Args[1], os.Args[2]
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server)
	}}
	ctx := context.Background()
	lines := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	lines.Scan()
	_, err := resolver.LookupIP(ctx, "ip4", "web.test.")
	check(err)
	_, err = resolver.LookupIP(ctx, "ip6", "web.test.")
	check(err)
	_, _, err = resolver.LookupSRV(ctx, "http", "tcp", "web.test.")
	check(err)
	_, err = resolver.LookupAddr(ctx, "10.1.2.3")
	check(err)
	if _, err = resolver.LookupIP(ctx, "ip4", "nope.test."); err == nil {
		fmt.Println("there is no nope.test")
	}
	fmt.Println("done")
	lines.Scan()
}
