package panel

import (
	"fmt"
	"strings"
	"testing"
)

// manyCPanel is a cPanel server of n accounts with all their files.
func manyCPanel(n int) files {
	var passwd, group, trueUsers, domains strings.Builder
	passwd.WriteString(passwdBase)
	group.WriteString(groupBase)
	fs := files{"var/cpanel/fileprotect": "", "etc/cpanel/ea4/php.conf": "---\ndefault: ea-php82\nea-php82: suphp\n"}
	for i := range n {
		u := fmt.Sprintf("u%05d", i)
		fmt.Fprintf(&passwd, "%s:x:%d:%d::/home/%s:/bin/sh\n", u, 30000+i, 30000+i, u)
		fmt.Fprintf(&group, "%s:x:%d:\n", u, 30000+i)
		fmt.Fprintf(&trueUsers, "%s.example: %s\n", u, u)
		fmt.Fprintf(&domains, "%s.example: %s==root==main==%s.example==/home/%s/public_html==192.0.2.1:80======0==\n", u, u, u, u)
		fmt.Fprintf(&domains, "b.%s.example: %s==root==sub==%s.example==/home/%s/b==192.0.2.1:80======0==\n", u, u, u, u)
		fs["var/cpanel/users/"+u] = "USER=" + u + "\nDNS=" + u + ".example\nPLAN=default\nOWNER=root\nSTARTDATE=1\nDNS1=b." + u + ".example\n"
		fs["var/cpanel/userdata/"+u+"/main"] = "---\nmain_domain: " + u + ".example\nparked_domains: []\nsub_domains:\n  - b." + u + ".example\naddon_domains: {}\n"
		for _, d := range []string{u + ".example", "b." + u + ".example"} {
			root := "/home/" + u + "/public_html"
			if d[1] == '.' {
				root = "/home/" + u + "/b"
			}
			fs["var/cpanel/userdata/"+u+"/"+d] = "---\ndocumentroot: " + root + "\ngroup: " + u + "\nhascgi: 1\nhomedir: /home/" + u + "\nip: 192.0.2.1\nowner: root\nphpversion: ea-php82\nport: 80\nscriptalias:\n  -\n    path: " + root + "/cgi-bin\n    url: /cgi-bin/\nserveradmin: x\nserveralias: www." + d + "\nservername: " + d + "\nuser: " + u + "\n"
			fs["var/cpanel/userdata/"+u+"/"+d+".php-fpm.yaml"] = "---\n_is_present: 1\n"
		}
	}
	fs["etc/passwd"], fs["etc/group"], fs["etc/trueuserdomains"], fs["etc/userdatadomains"] = passwd.String(), group.String(), trueUsers.String(), domains.String()
	return fs
}

// How long does it take to find out who lives on a server, for each account? Ten thousand must be read in a second:
// 100 µs each.
func BenchmarkReadCPanel(b *testing.B) {
	const n = 2000
	s := server(b, manyCPanel(n))
	b.ReportAllocs()
	for b.Loop() {
		if got := read(b, s); len(got.Accounts) != n || len(got.Issues) > 0 {
			b.Fatalf("%d accounts, issues %q", len(got.Accounts), got.Issues[:min(3, len(got.Issues))])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "µs/account")
}
