import socket,struct,time
s=socket.socket(socket.AF_UNIX);s.connect('/tmp/rv/.s.PGSQL.59117')
p=b'\0\3\0\0user\0super\0database\0postgres\0\0'
s.sendall(struct.pack('!i',len(p)+4)+p)
time.sleep(.3);s.recv(65536)
def m(t,b):return t+struct.pack('!i',len(b)+4)+b
def q(x):return m(b'P',b'\0'+x+b'\0\0\0')+m(b'B',b'\0\0\0\0\0\0\0\0')+m(b'E',b'\0\0\0\0\0')
s.sendall(q(b'begin')+q(b"update t set v='q'")+m(b'S',b''));time.sleep(.3);print(s.recv(65536)[-6:])
s.sendall(q(b'commit')+m(b'H',b''));time.sleep(.3);print(s.recv(65536));
s.close()
