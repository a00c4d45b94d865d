//! The reflector over real sockets.

use roomtone_collector::reflector::Reflector;
use roomtone_protocol::stamp::{PACKET_BYTES, Reply, Request, Timestamp};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::client::patiently;

async fn ask(socket: &UdpSocket, sequence: u32) -> Reply {
    let request = Request { sequence, sent: Timestamp::of_unix_us(77), ssid: 5 };
    // Bytes behind a request are not sent back.
    let mut buffer = [0xff; PACKET_BYTES + 20];
    request.encode(&mut buffer).unwrap();
    socket.send(&buffer).await.unwrap();
    let mut buffer = [0; 200];
    let length = patiently("a reply", socket.recv(&mut buffer)).await.unwrap();
    assert_eq!(length, PACKET_BYTES);
    let reply = Reply::decode(&buffer).unwrap();
    assert_eq!(reply.request, request);
    reply
}

#[tokio::test]
async fn request_comes_back_with_the_sessions_own_count_and_one_clock() {
    let reflector = Reflector::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = reflector.local_address().unwrap();
    let (stop, shutdown) = watch::channel(false);
    let serving = tokio::spawn(reflector.run(shutdown));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(address).await.unwrap();
    assert_eq!(ask(&socket, 0).await.sequence, 0);
    // What is too short for a request is passed over, and request 1 was lost on the way.
    socket.send(&[0; PACKET_BYTES - 1]).await.unwrap();
    let reply = ask(&socket, 2).await;
    assert_eq!((reply.sequence, reply.ttl), (1, 0));
    let (received_us, held_us) = reply.received_and_held_us();
    assert!(received_us > 0 && held_us < 5_000_000, "{reply:?}");
    let neighbour = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    neighbour.connect(address).await.unwrap();
    assert_eq!(ask(&neighbour, 7).await.sequence, 0, "a session of its own");
    stop.send(true).unwrap();
    patiently("the reflector's end", serving).await.unwrap();
    let taken = Reflector::bind("192.0.2.1:862".parse().unwrap()).await.unwrap_err().to_string();
    assert!(
        taken.starts_with("cannot listen on 192.0.2.1:862 (UDP) for stamp.listen: "),
        "{taken}"
    );
}
