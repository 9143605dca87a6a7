package panel

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// many is a server of n accounts of a panel, with all the files that are read of each.
func many(panel string, n int) files {
	var passwd, group strings.Builder
	passwd.WriteString(passwdBase)
	group.WriteString(groupBase)
	lists := map[string]*strings.Builder{}
	add := func(name, format string, args ...any) {
		if lists[name] == nil {
			lists[name] = &strings.Builder{}
		}
		fmt.Fprintf(lists[name], format, args...)
	}
	fs := files{}
	for i := range n {
		u := fmt.Sprintf("u%05d", i)
		fmt.Fprintf(&passwd, "%s:x:%d:%d::/home/%s:/bin/sh\n", u, 30000+i, 30000+i, u)
		fmt.Fprintf(&group, "%s:x:%d:\n", u, 30000+i)
		switch panel {
		case "cpanel":
			manyCPanel(fs, add, u)
		case "directadmin":
			dir := "usr/local/directadmin/data/users/" + u
			fs[dir+"/user.conf"] = "username=" + u + "\ndomain=" + u + ".example\nsuspended=no\nip=192.0.2.1\npackage=x\n"
			fs[dir+"/domains.list"] = u + ".example\n"
			fs[dir+"/domains/"+u+".example.conf"] = "domain=" + u + ".example\nactive=yes\n"
			fs[dir+"/domains/"+u+".example.subdomains"] = "b\n"
			add("etc/virtual/domainowners", "%s.example: %s\n", u, u)
		case "hestia":
			dir := "usr/local/hestia/data/users/" + u
			fs[dir+"/user.conf"] = "NAME='" + u + "'\nPACKAGE='default'\nSUSPENDED='no'\n"
			fs[dir+"/web.conf"] = "DOMAIN='" + u + ".example' CUSTOM_DOCROOT='' ALIAS='www." + u + ".example' SUSPENDED='no'\nDOMAIN='b." + u + ".example' ALIAS=''\n"
		case "virtualmin":
			dir := "etc/webmin/virtual-server/domains/"
			fs[dir+fmt.Sprint(100000+i)] = "dom=" + u + ".example\nuser=" + u + "\nunix=1\nweb=1\nhome=/home/" + u + "\n"
			fs[dir+fmt.Sprint(200000+i)] = fmt.Sprintf("dom=b.%s.example\nuser=%[1]s\nparent=%d\nweb=1\nhome=/home/%[1]s/domains/b\n", u, 100000+i)
			fmt.Fprintf(&passwd, "info.%s:x:%d:%d::/home/%[1]s/homes/info:/bin/false\n", u, 60000+i, 30000+i)
		case "plain":
			add("etc/apache2/apache2.conf", "<VirtualHost *:80>\nServerName %s.example\nDocumentRoot /home/%[1]s/www\n</VirtualHost>\n<VirtualHost *:80>\nServerName b.%[1]s.example\nDocumentRoot /home/%[1]s/b\n</VirtualHost>\n", u)
		}
	}
	fs["etc/passwd"], fs["etc/group"] = passwd.String(), group.String()
	for name, text := range lists {
		fs[name] = text.String()
	}
	if panel == "plain" {
		fs["etc/apache2/apache2.conf"] = "User www-data\nGroup www-data\n" + fs["etc/apache2/apache2.conf"]
	}
	return fs
}

func manyCPanel(fs files, add func(name, format string, args ...any), u string) {
	fs["etc/cpanel/ea4/php.conf"] = "---\ndefault: ea-php82\nea-php82: suphp\n"
	add("etc/trueuserdomains", "%s.example: %s\n", u, u)
	add("etc/userdatadomains", "%s.example: %s==root==main==%s.example==/home/%s/public_html==192.0.2.1:80======0==\n", u, u, u, u)
	add("etc/userdatadomains", "b.%s.example: %s==root==sub==%s.example==/home/%s/b==192.0.2.1:80======0==\n", u, u, u, u)
	fs["var/cpanel/users/"+u] = "USER=" + u + "\nDNS=" + u + ".example\nPLAN=default\nOWNER=root\nSTARTDATE=1\nDNS1=b." + u + ".example\n"
	fs["var/cpanel/userdata/"+u+"/main"] = "---\nmain_domain: " + u + ".example\nparked_domains: []\nsub_domains:\n  - b." + u + ".example\naddon_domains: {}\n"
	for d, root := range map[string]string{u + ".example": "/home/" + u + "/public_html", "b." + u + ".example": "/home/" + u + "/b"} {
		fs["var/cpanel/userdata/"+u+"/"+d] = "---\ndocumentroot: " + root + "\ngroup: " + u + "\nhascgi: 1\nhomedir: /home/" + u +
			"\nip: 192.0.2.1\nowner: root\nphpversion: ea-php82\nport: 80\nscriptalias:\n  -\n    path: " + root +
			"/cgi-bin\n    url: /cgi-bin/\nserveradmin: x\nserveralias: www." + d + "\nservername: " + d + "\nuser: " + u + "\n"
		fs["var/cpanel/userdata/"+u+"/"+d+".php-fpm.yaml"] = "---\n_is_present: 1\n"
	}
}

func manyPanels() []string { return []string{"cpanel", "directadmin", "hestia", "virtualmin", "plain"} }

// cpuTime is what this process took of the processors, in microseconds.
func cpuTime(t testing.TB) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u.Utime.Nano()/1000 + u.Stime.Nano()/1000
}

// How long does it take to find out who lives on a server, for each account? Ten thousand must be read in a second:
// 100 µs each. The processor's share is told apart, which a busy machine does not change much.
func BenchmarkRead(b *testing.B) {
	const n = 2000
	for _, panel := range manyPanels() {
		b.Run(panel, func(b *testing.B) {
			s := server(b, many(panel, n))
			b.ReportAllocs()
			cpu := cpuTime(b)
			for b.Loop() {
				if got := read(b, s); len(got.Accounts) < n {
					b.Fatalf("%d accounts, issues %q", len(got.Accounts), got.Issues[:min(3, len(got.Issues))])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "µs/account")
			b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/n, "cpu-µs/account")
		})
	}
}

// Ten times the accounts may take about ten times the work, not a hundred times: something that looks through all accounts
// for each of them would show.
func TestManyAccountsTakeLinearTime(t *testing.T) {
	if testing.Short() {
		t.Skip("builds hundreds of accounts of each panel")
	}
	for _, panel := range manyPanels() {
		t.Run(panel, func(t *testing.T) {
			took := map[int]int64{}
			for _, n := range []int{30, 300} {
				s := server(t, many(panel, n))
				start := cpuTime(t)
				got := read(t, s)
				took[n] = cpuTime(t) - start
				if len(got.Accounts) < n || len(got.Accounts[n-1].Sites) != 2 {
					t.Fatalf("%d accounts (want %d), issues %q", len(got.Accounts), n, got.Issues[:min(3, len(got.Issues))])
				}
			}
			t.Logf("30 accounts took %d µs of processor time, 300 took %d", took[30], took[300])
			if took[300] > 50*max(took[30], 5000) {
				t.Errorf("30 accounts took %d µs of processor time, 300 took %d", took[30], took[300])
			}
		})
	}
}
